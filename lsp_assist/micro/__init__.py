"""Small models of our own: gathering what they learn from, training and exporting them."""
