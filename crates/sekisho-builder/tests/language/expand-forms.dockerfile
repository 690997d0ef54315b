FROM base
ENV A=one E=
ENV B=${A:-no} C=${N:-word} D=${E:-empty} F=${E-set} G=${A:+yes} H=${N:+yes} I=${E+yes}
LABEL l="$A ${A} \$A '$A'" m='$A'
# row: expansion forms
# peers: buildkit-now
# want: config Env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin A=one E= B=one C=word D=empty F= G=yes H= I=yes
# want: config Labels l=one one $A 'one'|m=$A
