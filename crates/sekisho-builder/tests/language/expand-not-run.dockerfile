FROM base
ENV A=img
RUN A=shell; echo $A > /o
CMD ["$A"]
# row: RUN CMD ENTRYPOINT are not expanded
# peers: buildah buildkit
# want: tree o f644 0:0 shell\n
