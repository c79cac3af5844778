"""A trusted skeleton: does the setup do what it is meant to?"""
