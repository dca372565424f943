"""Requests that are harmful or only look so, and the judge of what a reply did about one."""
