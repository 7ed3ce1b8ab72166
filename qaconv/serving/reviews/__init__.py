"""Reviews: pairs that people are asked about, their answers, and what follows from them."""
