"""The long runs that show that nothing is ever lost: faults by the thousand, each proven to happen.

Rules: a figure is a function that does numbered trials and counts them; a fault that did not happen
is no trial. Each figure has controls: the same trials with one protection removed, by a patch in
here, which must find violations. pytest takes a bounded slice of each (test_*.py); the whole is
`make torture`.
"""
