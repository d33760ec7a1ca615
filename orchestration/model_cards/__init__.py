"""Model cards: for each version that serves or served forecasts, what a model-risk reviewer asks for, as Markdown and HTML.

In: a connection to the published copy. Out: files under ``model_cards/<model>/<version>``. Every number on a card comes from a query in ``facts/``.
Never writes to the warehouse, and never says that a model is approved: it says what was decided, by whom and on what evidence.
"""

from orchestration.model_cards.files import FOLDER, card_text, write_cards

__all__ = ["FOLDER", "card_text", "write_cards"]
