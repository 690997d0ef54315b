FROM base
ENV A=1
ENV B=${X:-${Y:-$A}}-z
WORKDIR /w$A/${B}
# row: expansion nested
# peers: buildah buildkit
