FROM base
ONBUILD COPY a.txt /
ONBUILD RUN echo x > /y
ONBUILD ENV A=1
# row: ONBUILD
# peers: buildah buildkit
