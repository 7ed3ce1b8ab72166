"""Reviews of pairs by people: which pairs are asked about, and what the answers say of a target's matches."""
