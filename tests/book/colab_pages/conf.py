"""A small book, only for the tests of the Colab edition."""

project = "Small book"
html_title = "Small book"
extensions = [
    "myst_nb",
    "sphinx_design",
    "sphinx_exercise",
    "sphinx_proof",
    "sphinx_book_theme",
    "sphinxcontrib.bibtex",
    "casebook_book.colab",
]
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
numfig = True
html_theme = "sphinx_book_theme"
html_baseurl = "https://example.org/small/"
html_theme_options = {
    "repository_url": "https://github.com/someone/small",
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "use_repository_button": True,
    "use_sidenotes": True,
}
