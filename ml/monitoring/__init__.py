"""Has something moved since a model was trained: its features, its errors, its attention?"""
