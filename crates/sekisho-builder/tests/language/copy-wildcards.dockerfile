FROM base
COPY *.txt /t/
COPY d?r/x /q/
COPY [a-b].txt /r/
COPY dir/*/z /s/
# row: COPY wildcards
# peers: buildah buildkit
