r"""adapts within other libraries."""
