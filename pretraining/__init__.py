r"""How bolt-nano was trained."""
