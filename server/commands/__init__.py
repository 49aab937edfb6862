"""One module per subcommand of `sectorwatch`; each offers a click command or group called `command`.

`server.__main__` imports a module only when its subcommand is run: `sectorwatch tokens` does not wait for torch.
Those of `upkeep` are modules there.
"""
