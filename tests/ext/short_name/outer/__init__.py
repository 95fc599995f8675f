"""A package with an extension whose definition says `short`, not `outer.short`."""
