"""How a run goes: from a source and a plan to tables."""
