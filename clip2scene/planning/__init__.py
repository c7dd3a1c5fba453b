"""Planning: a pilot measures what a study costs, and a plan chooses the part that a budget buys."""
