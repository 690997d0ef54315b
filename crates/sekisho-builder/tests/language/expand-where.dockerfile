FROM base
ENV P=80 D=/d U=app S=SIGTERM
EXPOSE $P
STOPSIGNAL $S
WORKDIR $D
USER $U
LABEL k$P=v
CMD echo $P
# row: instructions that expand
# peers: buildah buildkit
