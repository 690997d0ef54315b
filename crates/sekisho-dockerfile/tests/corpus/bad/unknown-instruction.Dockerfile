FROM debian
# mistake: 3:1 unknown instruction `ENRTYPOINT`
ENRTYPOINT ["/x"]
