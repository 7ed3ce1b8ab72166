# In a worker's clone: to QACONV_COMMIT, or to what is checked out where it was cloned from. dvc.lock stays as the last
# run has left it: it says what lies in the clone, and DVC checks it anyway.
set -eu
git fetch --quiet origin HEAD "+refs/heads/*:refs/remotes/origin/*"
commit=${QACONV_COMMIT:-$(git rev-parse FETCH_HEAD)}
if [ "$(git rev-parse HEAD)" != "$commit" ] || ! git diff --quiet -- . ":!dvc.lock"; then
  cp dvc.lock .dvc/lock.kept 2>/dev/null || :
  git checkout --quiet --force --detach "$commit"
  mv .dvc/lock.kept dvc.lock 2>/dev/null || :
fi
