"""The local stack: which parts there are, how they run, how they are watched over."""
