"""Real servers, scripted endpoints and fault injection for the tests of the handler services."""
