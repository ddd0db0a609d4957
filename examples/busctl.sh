#!/bin/sh
# The same with nothing but busctl (of systemd): ask for a file, hold it, let it go on, and wait for its end.
#
#     examples/busctl.sh FILE_ID
#
# To look around:
#     busctl --user tree org.dmedia.Transfer1
#     busctl --user introspect org.dmedia.Transfer1 /org/dmedia/Transfer1
#     busctl --user monitor org.dmedia.Transfer1
#
# With gdbus (of GLib), the first call is
#     gdbus call --session --dest org.dmedia.Transfer1 --object-path /org/dmedia/Transfer1 \\
#         --method org.dmedia.Transfer1.Manager.QueueDownload "$1" "" "{'priority': <'now'>}"
set -eu

name=org.dmedia.Transfer1
manager=/org/dmedia/Transfer1
call() { busctl --user call "$name" "$@"; }

# Arguments: the file, no preferred store, and one option: a string, "now".
transfer=$(call $manager $name.Manager QueueDownload 'ssa{sv}' "$1" '' 1 priority s now | cut -d '"' -f 2)
echo "$transfer"

call "$transfer" $name.Transfer Pause
call "$transfer" $name.Transfer Resume

# Properties say how far it is. A transfer that has ended is soon gone: Resolve says whether the file is here.
while status=$(busctl --user get-property $name "$transfer" $name.Transfer Status BytesDone BytesTotal 2>/dev/null); do
    echo $status
    case $status in *'"done"'* | *'"failed"'* | *'"cancelled"'*) break ;; esac
    sleep 1
done
call $manager $name.Manager Resolve s "$1"
