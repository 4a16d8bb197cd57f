"""What the user's code is, now: documents, outlines, and an index that stays equal to them."""
