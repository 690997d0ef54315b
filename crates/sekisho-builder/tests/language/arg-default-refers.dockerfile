ARG A=1
ARG B=$A-2
FROM base
ARG B
ARG C=${B}-3
LABEL c=$C
# row: ARG default refers to an ARG
# peers: buildah buildkit
