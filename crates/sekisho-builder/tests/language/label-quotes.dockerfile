FROM base
LABEL a="x \"y\"" b='p q' c=d\ e
# row: LABEL with quotes
# peers: buildah buildkit
