FROM base
HEALTHCHECK --interval=5s --timeout=3s --start-period=1m --retries=4 CMD curl -f localhost
# row: HEALTHCHECK
# peers: buildah buildkit
