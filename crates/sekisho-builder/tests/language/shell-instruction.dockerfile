FROM base
SHELL ["/bin/sh", "-ec"]
RUN echo x > /x
CMD run me
# row: SHELL
# peers: buildkit-now
# want: config Shell /bin/sh -ec
# want: config Cmd /bin/sh -ec run me
# want: tree x f644 0:0 x\n
