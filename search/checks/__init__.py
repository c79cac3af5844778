"""The recipe's checks: of the data, of a setup before it is searched, and the baselines that it has to beat."""
