"""The machine's broker: one process of root's that makes slices for people, each within an allowance.

`home` where it lives and whom to believe, `wire` what is asked and answered, `allowance` who may have what,
`server` the broker, `client` the person's side. Nothing here imports what it does not need: use the modules.
"""
