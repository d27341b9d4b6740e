"""How sure is it that a stored answer is right for another question, and how sure must it be?

`features` says what two questions have in common, `kinship` which stored answers are known to say the same, `learner` how likely
all of that makes an answer right, from labels as they come in; `curve` how low a confidence may serve within an error budget,
`exploration` which hits are to be checked, and `interval` what is known of the rate of wrong hits.

Rules only: no clock, no chance, no I/O.
"""
