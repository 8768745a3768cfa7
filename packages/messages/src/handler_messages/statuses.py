"""Words of the contract that are values of fields."""

PIPELINE_STATUSES = ("submitted", "pending", "running", "succeeded", "failed", "error")
"""Every `PipelineStatus.status`, in the order in which a run goes through them; the last three are its end."""

PIPELINE_ENDS = frozenset(PIPELINE_STATUSES[3:])
"""Those after which none follows."""
