r"""Generated inputs: each is answered with a result without NaN, or with one error of ours.

A generator is a function of a `random.Random`, so that the same code serves twice: hypothesis gives it random numbers
that it chooses and shrinks (`test_generated.py`, bounded, in `make test`), and `python -m generated` gives it one seed
a case, in processes that may crash or hang (`make fuzz`).
"""
