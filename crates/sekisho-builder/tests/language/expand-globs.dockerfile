FROM scratch
ENV V=foo.tar.gz
ENV A=${V%.*} B=${V%%.*} C=${V#*.} D=${V##*.} E=${V/o/0} F=${V//o/0}
LABEL x=${V%.gz}
# row: expansion with globs
# peers: buildkit-now
# want: config Env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin V=foo.tar.gz A=foo.tar B=foo C=tar.gz D=gz E=f0o.tar.gz F=f00.tar.gz
