"""What tokens cost: prices with their sources, and what calls come to by them.

`price` and `cost` are arithmetic. `table` is what the project itself knows, `sellers` say whose prices hold for whom, and
`book` holds those of one configuration. `openrouter` reads what OpenRouter says, `cache` keeps it, `refresh` brings both
about.
"""
