"""Published figures computed anew: what each expects, what came out, and whether they agree."""
