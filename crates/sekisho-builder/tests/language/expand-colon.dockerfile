FROM base
ENV A=one E=
ENV B=${A:-no} C=${N:-word} D=${E:-empty} G=${A:+yes} H=${N:+yes}
LABEL l="$A ${A} \$A '$A'" m='$A'
# row: expansion forms with a colon
# peers: buildah buildkit
