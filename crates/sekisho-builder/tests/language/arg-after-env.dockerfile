FROM base
ENV V=env E=
ARG V=arg E=arg
RUN echo "$V $E" > /o
LABEL l=$V m=$E
ENV V2=$V
ARG V=again
RUN echo "$V" > /p
ENV V=last
RUN echo "$V" > /q
ARG PATH=/bin
RUN echo $PATH > /r
ARG V2
RUN echo $V2 > /s
# row: of ARG and ENV the later one
# peers: buildkit
# want: tree o f644 0:0 arg arg\n
# want: tree p f644 0:0 again\n
# want: tree q f644 0:0 last\n
# want: tree r f644 0:0 /bin\n
# want: tree s f644 0:0 arg\n
# want: config Labels l=arg|m=arg
