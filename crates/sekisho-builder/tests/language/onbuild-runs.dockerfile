FROM base AS p
ONBUILD COPY a.txt /got
ONBUILD RUN echo x > /ran
ONBUILD ENV A=1
FROM p
RUN echo $A > /a
# row: ONBUILD in the child
# peers: buildkit-now
# want: tree got f644 0:0 a
# want: tree a f644 0:0 1\n
