FROM base
ARG A=arg
ENV A=env
RUN echo $A > /o
LABEL l=$A
# row: ENV wins over ARG
# peers: buildah buildkit
# want: tree o f644 0:0 env\n
