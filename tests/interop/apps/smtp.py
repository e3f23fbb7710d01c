#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sends mail by Python's smtplib, N times: smtp.py ADDRESS PORT N. The server speaks first: prints how often
its greeting took longer than half a second to come."""
import smtplib
import sys
import time

late = 0
for _ in range(int(sys.argv[3])):
    began = time.monotonic()
    with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=10) as s:
        late += time.monotonic() - began > 0.5
        s.sendmail("from@example.com", ["to@example.com"], "Subject: x\r\n\r\n" + "a line of it\r\n" * 5000)
print("late %d" % late)
