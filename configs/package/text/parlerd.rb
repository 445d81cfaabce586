# Made by `python -m configs.package`, with the checksum of the source archive that it made in the same run.
class Parlerd < Formula
  include Language::Python::Virtualenv

  desc "{{short}}"
  homepage "https://pypi.org/project/{{name}}/"
  url "https://files.pythonhosted.org/packages/source/p/{{name}}/{{name}}-{{version}}.tar.gz"
  sha256 "{{sha256}}"
  license "{{licence}}"

  depends_on "python@3.13"

  # What Parler runs on comes with the archive as a list of checksums. One of its parts has no source archive, so all of
  # them are taken as they were built.
  def install
    virtualenv_create(libexec, "python3.13")
    python = libexec/"bin/python"
    system "python3.13", "-m", "pip", "--python=#{python}", "install", "--only-binary=:all:", "--no-deps",
           "--require-hashes", "-r", buildpath/"requirements.txt"
    system "python3.13", "-m", "pip", "--python=#{python}", "install", "--no-deps", buildpath
    bin.install_symlink libexec/"bin/parler", libexec/"bin/parlerd"
  end

  test do
    assert_match "parler #{version}", shell_output("#{bin}/parler --version")
    ENV["PARLER_HOME"] = testpath/"home"
    system bin/"parler", "demo", "--no-next"
  end
end
