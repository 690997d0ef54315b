FROM base
ENV A one two
ENV B="x y" C=z\ w D='q'
ENV E=$B
# row: ENV both forms
# peers: buildah buildkit
