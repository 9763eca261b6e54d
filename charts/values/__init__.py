"""Values of the Helm chart as a model, and the files that are made from it."""
