"""Workloads, faults, scenarios and checkers: the production code under attack, judged by what it had promised.

Faults know nothing of checkers and checkers nothing of faults; what joins them is the history of attempts. Nothing
here may look inside a node: it uses what a client, an operator or the kernel could.
"""
