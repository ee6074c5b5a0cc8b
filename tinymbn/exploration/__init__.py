"""Which MobileNet fits a board, and how long it takes there: asked before anything is trained."""
