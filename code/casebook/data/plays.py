"""Nine plays by Shakespeare, as text to learn to write."""

from casebook.data.store import load_text


def shakespeare() -> str:
    """Nine plays by William Shakespeare, 1.1 million characters, in the form of tiny Shakespeare.

    Each speech is the speaker's name and a colon on a line of their own, then the lines spoken,
    then an empty line; titles, act and scene headings and stage directions are left out. In this
    order: Hamlet, Macbeth, King Lear, Othello, Romeo and Juliet, Julius Caesar, Twelfth Night,
    The Merchant of Venice, The Comedy of Errors. Plain ASCII; public domain.

    Raises DataError if the bundled file is missing or damaged.
    """
    return load_text("shakespeare")
