"""What every part uses: files, processes, events, devices, precisions. Imports none of them."""
