"""From clicks to a mask: a mask is a function of volume, clicks, reach and model.

Read in this order: `session`, `click_step`, `fusion`, `growth`; then the parts `patch_grid`, `prompt_maps`, `canvas`,
`bring_back` and `result`.
"""
