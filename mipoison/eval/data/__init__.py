"""The data sets, and who holds which rows of them.

`catalogue` names and describes the data sets, `loading.split` loads one and divides it among the roles of `splits`.
"""
