"""What runs, when, after what, and where results are stored. The only package that touches the warehouse."""
