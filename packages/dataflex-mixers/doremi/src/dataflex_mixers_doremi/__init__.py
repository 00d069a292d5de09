"""DoReMi for DataFlex (Xie et al. 2023, arXiv 2305.10429).

params       what a run file may set
group_dro    the maths: excess losses -> weights of the domains; pure
reference    losses of a reference model: live.py a second model, cached.py a file made once
mixer        the component: group_dro and reference in the Mix Trainer
weights      weights.json, which hands the result from one run to the next
phases, run  ``dataflex doremi``: reference -> proxy -> final
"""
