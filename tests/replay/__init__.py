"""What a cell agreed on, recorded and executed again elsewhere: the same bytes come out."""
