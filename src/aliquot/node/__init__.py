"""What happens on the machine that has the cards: choose one, prepare a slice, deliver it to a program.

It decides nothing that outlives a program and knows no terminal. `aliquot run` is the embedded use of it.
"""
